"""One module per endpoint, each with `add_routes`; `disabled` answers for those that a kubelet can switch off."""
