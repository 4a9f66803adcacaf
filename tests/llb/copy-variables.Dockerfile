FROM base
ARG A=a TO=/to MODE=600 OWNER=1
COPY --chmod=$MODE --chown=${OWNER}:2 $A $TO/

# Variables in all of its parts.
