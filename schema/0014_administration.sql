-- What administrators do to accounts.
SELECT;
