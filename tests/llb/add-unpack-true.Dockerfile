FROM base
ADD --unpack archive.tar /x/

# An archive that is to be unpacked.
