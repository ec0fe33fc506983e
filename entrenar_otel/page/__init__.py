"""Page: the runs of a lake in a browser, from a server for a team or as one file that opens offline."""
