FROM base
WORKDIR /w
COPY a .
COPY a ./
COPY a ./.
COPY a x
COPY a y/
COPY a ../y

# Into the working directory.
