"""SQL: plain functions that take a connection and give values, one file a family of tables.

The SQL stands inside the function that runs it. Transactions belong to the callers, above; what must be seen in the
order of its commits is written through `stream`.
"""
