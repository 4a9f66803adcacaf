FROM base
COPY --exclude=*.x --exclude=dir/y . /x/

# Patterns of what is not copied.
