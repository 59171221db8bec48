"""`make demo`: a whole cluster with a nodeless node on this machine, and a transcript of kubectl using it."""
