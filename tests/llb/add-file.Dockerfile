FROM base
ADD a archive.tar /x/

# A file, which may be an archive.
