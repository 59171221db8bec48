"""Has the images of pods ready for those that follow: hears from agents what was pulled, has the registry confirm it,
has the cloud prepare stores, and says which store a pod's instance may start from.

An agent's word alone gives nobody anything: names count as the registry confirms them, with the pod's own credentials,
and so do pull records. What the cloud takes over is checked by its digest.
"""
