"""Mail of a member that is to go: `leaving` hands it to members that stay (`sending`), which take it in (`taking`).

A message leaves a spool only once another member has it on its disk. One that is sent twice, because the answer was
lost, is stored once.
"""
