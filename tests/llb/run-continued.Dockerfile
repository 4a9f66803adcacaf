FROM base
RUN one \
  # no
  && two \
  && three

# A command on several lines.
