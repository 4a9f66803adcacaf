FROM base
ADD --unpack=false archive.tar /x/

# An archive that stays one.
