// Shows what a container sees: its words, its environment, its files.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_text(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && !strcmp(dot, ".txt");
}

static int no_dots(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

// Last letters first, for no reason but that the talk's listing is in this order.
static int backwards(const struct dirent **a, const struct dirent **b) {
    return -alphasort(a, b);
}

static void show(const char *name) {
    char path[512], line[80];
    snprintf(path, sizeof path, "/%s", name);
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        exit(1);
    }
    while (fgets(line, sizeof line, file))
        printf("%s: %s", name, line);
    fclose(file);
}

int main(int argc, char **argv) {
    const char *slash = strrchr(argv[0], '/');
    printf("%s", slash ? slash + 1 : argv[0]);
    for (int i = 1; i < argc; i++)
        printf(" %s", argv[i]);
    const char *hello = getenv("HELLO");
    printf("\nHELLO=%s\n", hello ? hello : "");

    struct dirent **entries;
    int count = scandir("/", &entries, no_dots, backwards);
    if (count < 0) {
        perror("/");
        return 1;
    }
    printf("/:");
    for (int i = 0; i < count; i++)
        printf(" %s", entries[i]->d_name);
    printf("\n");
    for (int i = 0; i < count; i++)
        if (is_text(entries[i]->d_name))
            show(entries[i]->d_name);
    return 0;
}
