FROM base
USER user
RUN one
USER 1:2
RUN two

# As a user.
