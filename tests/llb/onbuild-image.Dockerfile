FROM trigger
RUN own

# What an image wants done.
