/* Thousands of changes of files, drawn by lot from few names so that they meet; says what came
 * of each. tests/linux.rs runs it under Linux and in a container. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned long state = 1;

static unsigned draw(unsigned below)
{
    state = state * 6364136223846793005ul + 1442695040888963407ul;
    return (state >> 33) % below;
}

static const char *path(void)
{
    static const char *names[] = { "a", "b", "sub", "sub/a", "sub/deep", "sub/deep/er", "d", "d/a",
                                   "d/sub", "d/deep/er", "motd", "hard", "link", "sub/inner", "a/b",
                                   "d/l", "l", "d/.", "sub/..", "./d/", "l/", "d/deep" };
    return names[draw(sizeof names / sizeof *names)];
}

static void tell(const char *at)
{
    struct stat s;
    if (lstat(at, &s)) {
        printf(" %s!%d", at, errno);
        return;
    }
    printf(" %s:%o", at, s.st_mode);
    if (!S_ISDIR(s.st_mode))
        printf(",%lu,%ld", (unsigned long)s.st_nlink, (long)s.st_size);
    if (S_ISREG(s.st_mode)) {
        unsigned sum = 0, length;
        unsigned char text[4096];
        int fd = open(at, O_RDONLY);
        while ((int)(length = read(fd, text, sizeof text)) > 0)
            for (unsigned i = 0; i < length; i++)
                sum = sum * 31 + text[i];
        close(fd);
        printf(",%x", sum);
    }
}

int main(void)
{
    for (int round = 0; round < 4000; round++) {
        const char *one = path(), *other = path();
        char text[32];
        int what = draw(16), fd = -1;
        long result = -1;
        errno = 0;
        switch (what) {
        case 0: case 1:
            fd = open(one, O_RDWR | O_CREAT | (draw(2) ? O_TRUNC : 0) | (draw(4) ? 0 : O_EXCL), 0644);
            break;
        case 2:
            fd = open(one, O_WRONLY | (draw(2) ? O_APPEND : 0));
            break;
        case 3: case 4:
            result = mkdir(one, 0755);
            break;
        case 5:
            result = rmdir(one);
            break;
        case 6:
            result = unlink(one);
            break;
        case 7: case 8: case 9:
            result = rename(one, other);
            break;
        case 10:
            result = syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, draw(2) + 1);
            break;
        case 11:
            result = link(one, other);
            break;
        case 12:
            result = symlink(other, one);
            break;
        case 13:
            result = truncate(one, draw(3) * 3000);
            break;
        case 14:
            result = chmod(one, 0600 + draw(0200));
            break;
        case 15:
            memset(text, 0, sizeof text);
            result = readlink(one, text, sizeof text - 1);
            break;
        }
        if (what <= 2) {
            result = fd < 0 ? -1 : 0;
            if (fd >= 0) {
                snprintf(text, sizeof text, "round %d", round);
                result = pwrite(fd, text, strlen(text), draw(3) * 2500);
                close(fd);
                errno = 0;
            }
        }
        int error = result < 0 ? errno : 0;
        printf("%d %d %s %s %ld %d;", round, what, one, other, result, error);
        tell(one);
        tell(other);
        tell("motd");
        tell("hard");
        printf("\n");
    }
    return 0;
}
