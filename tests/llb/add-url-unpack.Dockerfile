FROM base
ADD --unpack=true --chown=1:2 {web}/archive.tar /x/

# Unpacked.
