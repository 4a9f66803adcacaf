FROM base
ADD {git}/repo.git /x/

# A repository.
