"""`vk-provider net explain`: why a pod can connect to something, or cannot. Pure.

`target` reads what was asked, `services` says what a Service means for it, `facts` is everything that is known of one
connection, `verdict` decides, `document` is the answer as JSON, `report` the answer as text. Who asks the API server,
the compiled tables and the agent is `vk_provider.explaining`.
"""
