"""Our instances: one owner of their lives, between `pods` and the doors `cloud` and `agentclient`.

A pod says what it needs (`demand`) and is given an instance (`supply`): an idle one that fits, or one of the next
launch for its group (`launches`). From then on the instance is that pod's alone, until it ends (`ends`). `room` puts
the parts together and is what `pods` sees.

    instance   one of them: what is known of it, its link to its agent, whose it is
    table      what the cloud shows, by listings that all share, and by notices
    waiting    who waits for an instance, and in which group of equal demands (`groups`)
    launches   one call for each group; `request` freezes a call, `shortages` remembers what is short
    supply     who gets which; what an agent's greeting means
    unclaimed  those that no pod has, and which of them are expected to say what they have
    inherited  pods that an earlier process may have served; `refusals` ends instances whose agents prove nothing
    stock      keeps the pools full, and says which of their instances a pod may have
    pool       one of them: its size now, and what fits (but for the clock, pure)
    standby    stops those of stopped pools, and starts them for pods
    links      the sessions to the agents
    ends       terminations, and whether they came true
    tagging    which pod an instance serves, as tags, for people
    sweep      ends what nobody needs
    pace       how fast a verb of the cloud may be called
    missing    when an instance that is not listed is gone (pure)

Nothing here knows what a pod is beyond its UID, its name and its size.
"""
