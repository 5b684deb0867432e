-- Sign-in pages.
SELECT;
