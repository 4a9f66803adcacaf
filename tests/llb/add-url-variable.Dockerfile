FROM base
ARG NAME=archive
ADD {web}/$NAME.tar /x/

# With a variable.
