-- Registration and limits that survive a restart.
SELECT;
