FROM base
ADD --keep-git-dir=true {git}/repo.git /x/

# With its .git.
