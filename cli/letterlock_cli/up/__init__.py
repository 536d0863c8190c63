"""`letterlock up DIR`: the operator's decisions on a folder of manifests, and a gateway on this machine.

`folder` observes what users write, `state` is where everything made from it lives, `mounts` hands it to the
members as a kubelet would, `processes` runs them, `reconcile` is the loop, `screen` shows it.
"""
