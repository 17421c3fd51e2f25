"""What a user asks for: one function for each command, called alike by the command line and from Python."""
