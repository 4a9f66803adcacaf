FROM nowhere AS no
RUN no
FROM base
RUN yes

# A stage that nobody needs is not looked at.
