"""Who may ask the kubelet API for what: authentication, authorization by `attributes`, the server's side of TLS."""
