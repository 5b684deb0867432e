-- Refresh tokens and OAuth 2.0.
SELECT;
