"""The kubelet's HTTPS API (:10250) of every Node.

    server             the server of a Node, and the process's own health server
    api, provider      what all endpoints share; Protocols of what they need of the provider
    endpoints          one module per endpoint
    streams            the upgraded connection of exec, attach and port-forward, passed through
    access             who may ask: client certificates and their CAs, tokens, authorization
    samples, scrape    the newest samples of a Node's agents, and how endpoints that are scraped answer
    readers            how long, and for how many, what a long answer is made of is kept

It answers from the state of `pods` (through the Protocols in `provider`) and forwards logs, run and upgraded streams
to the agents. It decides nothing about pods. Bodies and status codes are those of a kubelet (pkg/kubelet/server).
"""
