"""The test bench: real brokers, real controllers and real guests on one machine.

Everything a bench starts, it ends by process id; nothing here ends a process by name.
"""
