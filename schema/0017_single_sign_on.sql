-- Single sign-on.
SELECT;
