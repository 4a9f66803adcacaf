FROM base
WORKDIR /w
RUN one
WORKDIR x
RUN two
WORKDIR ../y/
RUN three

# In a directory.
