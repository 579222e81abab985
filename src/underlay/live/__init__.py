"""The world: sockets, clocks, processes, files. Moves bytes and reports; decides nothing."""
