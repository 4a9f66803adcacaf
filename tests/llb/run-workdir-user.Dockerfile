FROM base
USER user:staff
WORKDIR /w
RUN one

# A directory of a user.
