FROM base
ADD --chown=1:2 --chmod=700 --exclude=*.x dir /x/
ADD --link a /y/

# Owner, mode, patterns.
