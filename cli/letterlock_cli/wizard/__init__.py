"""`letterlock init` (H3): `answers` says what is asked, `lookups` looks at DNS, `drafts` writes manifests.

`answers` and `drafts` are pure; who asks and writes is `init_command`.
"""
