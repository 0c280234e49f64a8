"""From official downloads to the folders that mmseg and mmdet document.

::

    archives -> unpack (members under new names) -> convert (labels) -> check (counts, pairs)

Every step skips files that are there, and no file is ever half-written: a run that was stopped
goes on where it was when it is started again.
"""
