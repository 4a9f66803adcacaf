/* Changes files in its working directory and says what came of it. tests/linux.rs runs it under
 * Linux and in a container, in a directory of an image that has:
 *   motd (0640, "0123456789abcde\n"), hard (the same file), link -> motd, sub/inner, sub/deep/er
 */
#define _GNU_SOURCE
#include "say.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

/* Not in musl. */
static long rename2(const char *from, const char *to, int flags)
{
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void show(const char *path)
{
    struct stat s;
    if (lstat(path, &s)) {
        printf("  %s: %s\n", path, strerrorname(errno));
        return;
    }
    printf("  %s: mode %o", path, s.st_mode);
    if (!S_ISDIR(s.st_mode))
        printf(" links %lu size %ld", (unsigned long)s.st_nlink, (long)s.st_size);
    if (S_ISREG(s.st_mode)) {
        char text[64];
        int fd = open(path, O_RDONLY);
        ssize_t length = read(fd, text, sizeof text);
        printf(" text ");
        for (ssize_t i = 0; i < length; i++)
            printf(text[i] >= ' ' && text[i] < 127 ? "%c" : "\\%d", text[i]);
        close(fd);
    }
    printf("\n");
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *path)
{
    char *names[64];
    int count = 0;
    DIR *dir = opendir(path);
    if (!dir) {
        printf("  %s/: %s\n", path, strerrorname(errno));
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir)) && count < 64;)
        names[count++] = strdup(entry->d_name);
    closedir(dir);
    qsort(names, count, sizeof *names, compare);
    printf("  %s/:", path);
    for (int i = 0; i < count; i++)
        printf(" %s", names[i]);
    printf("\n");
}

static void writing(void)
{
    int fd, other;
    char text[16] = "";
    OPENS(fd = open("motd", O_RDWR));
    OPENS(other = open("link", O_RDONLY));
    SAY(pwrite(fd, "abc", 3, 2));
    SAY(read(other, text, 8));
    printf("  %.8s\n", text);
    show("motd");
    show("hard");
    SAY(lseek(fd, 0, SEEK_END));
    SAY(write(fd, "end", 3));
    SAY(ftruncate(fd, 4));
    SAY(lseek(fd, 6, SEEK_SET));
    SAY(write(fd, "x", 1));
    show("hard");
    SAY(ftruncate(other, 0));
    SAY(ftruncate(fd, -1));
    SAY(write(other, "x", 1));
    SAY(pwrite(fd, "x", 1, -1));
    close(other);
    close(fd);
    OPENS(fd = open("new", O_WRONLY | O_CREAT | O_EXCL, 0666));
    OPENS(open("new", O_WRONLY | O_CREAT | O_EXCL, 0666));
    OPENS(open("link", O_WRONLY | O_CREAT | O_EXCL, 0666));
    struct iovec pieces[] = { { "one", 3 }, { "", 0 }, { "two", 3 } };
    SAY(writev(fd, pieces, 3));
    SAY(pwritev(fd, pieces, 3, 10));
    SAY(writev(fd, pieces, 1));
    SAY(read(fd, text, 1));
    show("new");
    close(fd);
    OPENS(fd = open("new", O_RDWR | O_APPEND));
    SAY(pwrite(fd, "p", 1, 0));
    SAY(lseek(fd, 0, SEEK_CUR));
    SAY(write(fd, "a", 1));
    SAY(lseek(fd, 0, SEEK_CUR));
    close(fd);
    show("new");
    SAY(truncate("new", 2));
    SAY(truncate("sub", 2));
    SAY(truncate("none", 2));
    OPENS(fd = open("new", O_RDWR | O_TRUNC));
    show("new");
    SAY(ftruncate(fd, 100000));
    SAY(pwrite(fd, "y", 1, 70000));
    SAY(lseek(fd, 0, SEEK_HOLE));
    SAY(lseek(fd, 100000, SEEK_DATA));
    SAY(fallocate(fd, 0, 0, 5000));
    SAY(fallocate(fd, FALLOC_FL_KEEP_SIZE, 200000, 5000));
    SAY(lseek(fd, 0, SEEK_END));
    SAY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 69000, 2000));
    SAY(pread(fd, text, 1, 70000));
    printf("  %d\n", text[0]);
    SAY(fallocate(fd, 0, 0, 0));
    SAY(fallocate(fd, 0, -1, 1));
    SAY(ftruncate(fd, 0));
    SAY(pwrite(fd, "0123456789", 10, 0));
    OPENS(other = open("copy", O_RDWR | O_CREAT, 0600));
    off_t from = 2, to = 1;
    SAY(copy_file_range(fd, &from, other, &to, 5, 0));
    printf("  %ld %ld\n", (long)from, (long)to);
    from = 8;
    SAY(sendfile(other, fd, &from, 100));
    printf("  %ld\n", (long)from);
    show("copy");
    SAY(fsync(fd));
    SAY(fdatasync(other));
    close(fd);
    close(other);
}

static void names(void)
{
    int fd;
    char text[32] = "";
    SAY(mkdir("dir", 0777));
    SAY(mkdir("dir", 0777));
    SAY(mkdir("dir/a/b", 0777));
    SAY(mkdir("dir/a/", 0700));
    SAY(mkdir("none/..", 0700));
    SAY(mkdir(".", 0700));
    show("dir");
    show("dir/a");
    SAY(unlink("dir"));
    SAY(rmdir("dir"));
    SAY(rmdir("dir/a/."));
    SAY(rmdir("dir/a/.."));
    SAY(rmdir("new"));
    SAY(unlink("new/"));
    SAY(unlink("none"));
    SAY(unlink("sub/inner/x"));
    SAY(symlink("../motd", "dir/up"));
    SAY(symlink("x", "dir/up"));
    SAY(symlink("", "dir/empty"));
    show("dir/up");
    SAY(readlink("dir/up", text, 32));
    SAY(symlink("made", "dangling"));
    OPENS(fd = open("dangling", O_WRONLY | O_CREAT, 0644));
    close(fd);
    show("made");
    SAY(link("made", "again"));
    SAY(link("dir", "again2"));
    SAY(link("dangling", "again3"));
    show("again3");
    SAY(link("none", "again4"));
    SAY(link("made", "again"));
    show("made");
    SAY(unlink("made"));
    show("again");
    OPENS(open("dangling", O_RDONLY));
    SAY(mknod("fifo", S_IFIFO | 0666, 0));
    show("fifo");
    SAY(mknod("plain", S_IFREG | 0666, 0));
    show("plain");
    list(".");
    list("dir");
    list("sub");
}

static void moving(void)
{
    SAY(rename("sub", "dir/sub"));
    list("sub");
    list("dir/sub");
    show("dir/sub/inner");
    SAY(rename("dir", "dir/sub/dir"));
    SAY(rename("dir/sub", "dir"));
    SAY(rename("dir/sub", "motd"));
    SAY(rename("motd", "dir"));
    SAY(rename("motd", "dir/sub/"));
    SAY(rename("motd/", "x"));
    SAY(rename("dir/.", "x"));
    SAY(rename("none", "x"));
    SAY(mkdir("empty", 0755));
    SAY(rename("dir/sub", "empty"));
    list("empty");
    list("dir");
    SAY(rename("motd", "hard"));
    show("motd");
    SAY(rename2("motd", "hard", RENAME_NOREPLACE));
    SAY(rename2("motd", "moved", RENAME_NOREPLACE));
    SAY(rename2("moved", "empty", RENAME_EXCHANGE));
    show("empty");
    list("moved");
    SAY(rename2("moved", "none", RENAME_EXCHANGE));
    SAY(rename2("moved", "moved/deep/x", RENAME_EXCHANGE));
    SAY(rename2("moved/deep", "moved", RENAME_EXCHANGE));
    SAY(rename("copy", "new"));
    show("new");
    SAY(rmdir("moved/deep"));
    SAY(rmdir("moved/deep/er"));
    SAY(rmdir("moved/deep"));
    list("moved");
    SAY(mkdir("moved/deep", 0755));
    list("moved/deep");
}

static void telling(void)
{
    struct stat s;
    int fd;
    SAY(chmod("new", 04755));
    show("new");
    SAY(chmod("moved", 01777));
    show("moved");
    SAY(chmod("none", 0));
    SAY(chown("new", 12, 34));
    show("new");
    SAY(stat("new", &s));
    printf("  %u %u\n", s.st_uid, s.st_gid);
    SAY(lchown("link", 5, -1));
    struct timespec times[] = { { 1000, 5 }, { 2000, UTIME_OMIT } };
    SAY(utimensat(AT_FDCWD, "new", times, 0));
    SAY(stat("new", &s));
    printf("  %ld %ld\n", (long)s.st_atim.tv_sec, s.st_atim.tv_nsec);
    times[1].tv_nsec = 7;
    OPENS(fd = open("new", O_RDONLY));
    SAY(futimens(fd, times));
    SAY(fstat(fd, &s));
    printf("  %ld %ld\n", (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    times[1].tv_nsec = 1000000000;
    SAY(futimens(fd, times));
    SAY(fchmod(fd, 0600));
    SAY(fchown(fd, 0, 0));
    show("new");
    close(fd);
    umask(077);
    OPENS(fd = open("masked", O_CREAT | O_WRONLY, 0666));
    show("masked");
    umask(022);
    SAY(unlink("masked"));
    SAY(write(fd, "still", 5));
    SAY(fstat(fd, &s));
    printf("  links %lu size %ld\n", (unsigned long)s.st_nlink, (long)s.st_size);
    close(fd);
    SAY(access("new", X_OK));
    SAY(access("new", R_OK | W_OK));
    SAY(access("moved", X_OK));
    SAY(faccessat(AT_FDCWD, "dangling", F_OK, AT_SYMLINK_NOFOLLOW));
    SAY(access("dangling", F_OK));
    OPENS(fd = open(".", O_TMPFILE | O_RDWR, 0600));
    SAY(write(fd, "tmp", 3));
    char path[64];
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    SAY(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    show("named");
    close(fd);
    OPENS(fd = open("named", O_PATH));
    SAY(read(fd, path, 1));
    SAY(fstat(fd, &s));
    SAY(fchmod(fd, 0));
    close(fd);
    OPENS(open("named", O_RDONLY | O_DIRECTORY));
    OPENS(open("moved", O_WRONLY));
    OPENS(open("moved/new/", O_WRONLY | O_CREAT, 0644));
    OPENS(open("link", O_RDONLY | O_NOFOLLOW));
}

static void directories(void)
{
    char path[256], *here = getcwd(NULL, 0);
    int dir, fd;
    SAY(mkdir("gone", 0755));
    OPENS(dir = open("gone", O_RDONLY | O_DIRECTORY));
    SAY(chdir("gone"));
    SAY(rmdir("../gone"));
    printf("  %s\n", getcwd(path, 256) ? "there" : strerrorname(errno));
    OPENS(open("x", O_CREAT | O_WRONLY, 0644));
    SAY(mkdir("x", 0755));
    OPENS(open(".", O_RDONLY));
    SAY(fchdir(dir));
    list(".");
    SAY(chdir(here));
    close(dir);
    OPENS(dir = open("moved", O_RDONLY | O_DIRECTORY));
    SAY(rename("moved", "moved2"));
    OPENS(fd = openat(dir, "made-late", O_CREAT | O_WRONLY, 0644));
    close(fd);
    list("moved2");
    SAY(unlinkat(dir, "made-late", 0));
    SAY(unlinkat(dir, "deep", AT_REMOVEDIR));
    SAY(unlinkat(dir, "deep", 77));
    close(dir);
    list("moved2");
    for (int i = 0; i < 100; i++) {
        snprintf(path, 256, "moved2/f%d", i);
        fd = open(path, O_CREAT | O_WRONLY, 0644);
        close(fd);
    }
    DIR *stream = opendir("moved2");
    int count = 0;
    for (struct dirent *entry; (entry = readdir(stream));)
        if (entry->d_name[0] == 'f')
            count += !unlinkat(dirfd(stream), entry->d_name, 0);
    closedir(stream);
    printf("  removed %d\n", count);
    list("moved2");
    free(here);
}

int main(void)
{
    writing();
    names();
    moving();
    telling();
    directories();
    list(".");
    return 0;
}
