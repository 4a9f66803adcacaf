FROM base
COPY --link --exclude=*.x --chown=3 dir /x/
ADD --link archive.tar /y/

# All at once.
