-- E-mail, third-party identifiers and second factors.
SELECT;
