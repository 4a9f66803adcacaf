FROM base
ADD --link --chown=1 {git}/repo.git /x/

# As a layer of its own, with an owner.
