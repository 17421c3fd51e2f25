"""The command line: parse, call, print. Each command's module is imported only when it is asked for."""
