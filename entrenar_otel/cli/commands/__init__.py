"""The commands, each a function; what it needs is imported when it is called, so that --help stays quick."""
