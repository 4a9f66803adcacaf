/* Calls about files, in the tree that tests/libkos.rs makes. */
#define _GNU_SOURCE
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

static void reading(void)
{
    char a[16] = "", b[16] = "";
    int fd = open("/etc/motd", O_RDONLY | O_CLOEXEC);
    CHECK(fd == 3);
    CHECK(read(fd, a, 4) == 4 && !memcmp(a, "0123", 4));
    CHECK(pread(fd, a, 16, 8) == 8 && !memcmp(a, "89abcde\n", 8));
    CHECK(lseek(fd, 0, SEEK_CUR) == 4);
    struct iovec pieces[] = { { a, 2 }, { b, 3 } };
    CHECK(readv(fd, pieces, 2) == 5 && !memcmp(a, "45", 2) && !memcmp(b, "678", 3));
    CHECK(lseek(fd, -2, SEEK_END) == 14);
    CHECK(read(fd, a, 16) == 2 && read(fd, a, 16) == 0);
    CHECK(lseek(fd, 100, SEEK_SET) == 100 && read(fd, a, 16) == 0);
    FAILS(EINVAL, lseek(fd, -1, SEEK_SET));
    FAILS(EINVAL, lseek(fd, 0, 9));
    FAILS(EBADF, write(fd, a, 1));
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
    int other = dup(fd);
    CHECK(other == 4 && fcntl(other, F_GETFD) == 0);
    CHECK(lseek(fd, 1, SEEK_SET) == 1 && lseek(other, 0, SEEK_CUR) == 1);
    CHECK(close(fd) == 0 && read(other, a, 1) == 1 && a[0] == '1');
    FAILS(EBADF, read(fd, a, 1));
    CHECK(dup2(other, 9) == 9 && dup3(other, 8, O_CLOEXEC) == 8 && fcntl(8, F_GETFD) == 1);
    FAILS(EINVAL, dup3(other, other, 0));
    CHECK(close(other) == 0 && close(8) == 0 && close(9) == 0);
    FAILS(EBADF, close(9));
    CHECK(read(0, a, 16) == 0);
    FAILS(EBADF, read(1, a, 1));
}

static void many(void)
{
    int last = 0, fd;
    while ((fd = open("/etc/motd", O_RDONLY)) >= 0)
        last = fd;
    CHECK(errno == EMFILE && last == 1023);
    FAILS(EMFILE, dup(0));
    char byte;
    CHECK(read(1023, &byte, 1) == 1 && byte == '0');
    while (last > 2)
        CHECK(close(last--) == 0);
}

static void opening(void)
{
    FAILS(ENOENT, open("/none", O_RDONLY));
    FAILS(ENOENT, open("", O_RDONLY));
    FAILS(ENOENT, open("/none/none", O_CREAT | O_WRONLY, 0644));
    FAILS(ENOTDIR, open("/etc/motd/none", O_RDONLY));
    FAILS(ENOTDIR, open("/etc/motd", O_DIRECTORY));
    FAILS(ENOTDIR, open("/etc/motd/", O_RDONLY));
    FAILS(EISDIR, open("/etc", O_WRONLY));
    FAILS(EROFS, open("/proc/new", O_CREAT | O_WRONLY, 0644));
    FAILS(EROFS, open("/sys/fs/cgroup/new", O_CREAT | O_WRONLY, 0644));
    FAILS(EEXIST, open("/etc/motd", O_CREAT | O_EXCL | O_WRONLY, 0644));
    FAILS(ELOOP, open("/loop", O_RDONLY));
    FAILS(ELOOP, open("/link", O_RDONLY | O_NOFOLLOW));
    FAILS(EROFS, mkdir("/proc/new", 0755));
    FAILS(EROFS, unlink("/proc/version"));
    FAILS(EBUSY, rename("/dev", "/etc/new"));
    FAILS(EXDEV, rename("/etc/motd", "/dev/shm/new"));
    FAILS(EBADF, openat(77, "motd", O_RDONLY));
    char name[300];
    memset(name, 'x', 299);
    name[299] = 0;
    FAILS(ENAMETOOLONG, open(name, O_RDONLY));
    int dir = open("/etc", O_RDONLY | O_DIRECTORY), fd = openat(dir, "../etc/motd", O_RDONLY);
    CHECK(fd > dir);
    CHECK(access("/chain00", R_OK) == 0);
    FAILS(EISDIR, read(dir, name, 1));
    FAILS(ENOTDIR, openat(fd, "motd", O_RDONLY));
    close(dir);
    close(fd);
}

static void telling(void)
{
    struct stat stat_of, other;
    CHECK(stat("/link", &stat_of) == 0 && S_ISREG(stat_of.st_mode) && stat_of.st_size == 16);
    CHECK(lstat("/link", &other) == 0 && S_ISLNK(other.st_mode) && other.st_size == 8);
    CHECK((stat_of.st_mode & 07777) == 0640 && stat_of.st_ino != other.st_ino);
    CHECK(stat("/hard", &other) == 0 && other.st_nlink == 2 && other.st_ino == stat_of.st_ino);
    CHECK(stat("/etc", &stat_of) == 0 && S_ISDIR(stat_of.st_mode));
    CHECK(fstat(1, &stat_of) == 0 && S_ISFIFO(stat_of.st_mode));
    CHECK(fstat(0, &stat_of) == 0 && S_ISCHR(stat_of.st_mode));
    FAILS(EBADF, fstat(77, &stat_of));
    FAILS(ENOENT, stat("/none", &stat_of));
    FAILS(ENOTDIR, stat("/etc/motd/.", &stat_of));
    CHECK(access("/bin/tool", X_OK) == 0 && access("/etc/motd", R_OK) == 0);
    FAILS(EACCES, access("/etc/motd", X_OK));
    CHECK(access("/etc/motd", W_OK) == 0);
    FAILS(EROFS, access("/proc/version", W_OK));
    char target[16] = "";
    CHECK(readlink("/link", target, 16) == 8 && !memcmp(target, "etc/motd", 9));
    CHECK(readlink("/link", target, 3) == 3);
    FAILS(EINVAL, readlink("/etc/motd", target, 16));
    FAILS(ENOENT, readlink("/none", target, 16));
    char *canonical = realpath("/far/../link", NULL);
    CHECK(canonical && !strcmp(canonical, "/etc/motd"));
    for (int fd = 0; fd < 3; fd++)
        CHECK(!isatty(fd) && errno == ENOTTY);
}

static void walking(void)
{
    char path[64];
    CHECK(getcwd(path, 64) && !strcmp(path, "/etc"));
    CHECK(open("motd", O_RDONLY) == 3 && close(3) == 0);
    CHECK(chdir("../deep/er") == 0 && getcwd(path, 64) && !strcmp(path, "/deep/er"));
    FAILS(ERANGE, (long)getcwd(path, 5) - 1);
    FAILS(ENOTDIR, chdir("/etc/motd"));
    CHECK(open("../../../../etc/motd", O_RDONLY) == 3 && close(3) == 0);
    int root = open("/", O_RDONLY);
    CHECK(fchdir(root) == 0 && open("etc/motd", O_RDONLY) == root + 1);
    CHECK(close(root + 1) == 0 && close(root) == 0);
}

static void listing(void)
{
    DIR *dir = opendir("/many");
    int count = 0, dots = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char name[16];
        snprintf(name, 16, "f%03d", count);
        if (entry->d_name[0] == '.')
            dots += entry->d_type == DT_DIR;
        else
            CHECK(!strcmp(entry->d_name, name) && entry->d_type == DT_REG && ++count);
    }
    CHECK(count == 200 && dots == 2);
    rewinddir(dir);
    CHECK(!strcmp(readdir(dir)->d_name, "."));
    closedir(dir);
    printf("/:");
    dir = opendir("/");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (strncmp(entry->d_name, "chain", 5))
            printf(" %s", entry->d_name);
    printf("\n");
    closedir(dir);
    char buffer[16];
    int fd = open("/", O_RDONLY);
    FAILS(EINVAL, getdents(fd, (struct dirent *)buffer, 16));
    close(fd);
}

static void devices(void)
{
    char bytes[4] = "abcd";
    int fd = open("/dev/null", O_RDWR);
    CHECK(write(fd, bytes, 4) == 4 && read(fd, bytes, 4) == 0);
    close(fd);
    fd = open("/dev/zero", O_RDONLY);
    CHECK(read(fd, bytes, 4) == 4 && !memcmp(bytes, "\0\0\0\0", 4));
    close(fd);
    fd = open("/dev/urandom", O_RDONLY);
    CHECK(read(fd, bytes, 4) == 4);
    close(fd);
}

/* However what is copied lies in its words, and however long it is. */
static void pieces(void)
{
    static unsigned char all[512], some[512 + 64];
    int fd = open("/bin/tool", O_RDONLY);
    int good = fd >= 0 && pread(fd, all, sizeof all, 0) == sizeof all;
    for (int from = 0; from < 16; from++)
        for (int to = 16; to < 32; to++)
            for (int length = 0; length < 300; length += length < 140 ? 1 : 37) {
                memset(some, 0xee, sizeof some);
                good &= pread(fd, some + to, length, from) == length;
                good &= !memcmp(some + to, all + from, length);
                good &= some[to - 1] == 0xee && some[to + length] == 0xee;
            }
    CHECK(good);
    close(fd);
}

int main(void)
{
    walking();
    reading();
    pieces();
    many();
    opening();
    telling();
    listing();
    devices();
    return report();
}
