"""Stores for Glance: drivers of glance_store that read with reknit. Needs `pip install 'midstream[glance]'`.

They are named in the entry point group `glance_store.drivers`, `reknit-http`, `reknit-s3` and
`reknit-swift`, take the options of the drivers they stand in for, and write, delete and configure as those
do. Reading is different: a drop is continued where it was, offset and chunk_size are honoured, the digest
the store offers is verified, and what cannot be had whole raises instead of ending.
"""
