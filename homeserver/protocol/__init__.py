"""The protocol as pure functions of values: no I/O, no clock, no asyncio.

So it can be tested on millions of generated cases, and it is. What an algorithm looks at is loaded before it is called.
"""
