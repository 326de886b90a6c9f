/*
 * The peer of the extent listing: ask the kernel for every file extent of a mounted tree.
 *
 *     cc -O2 -o fiemap_loop fiemap_loop.c && ./fiemap_loop MOUNT
 *
 * Opens every regular file below MOUNT, subvolumes and snapshots included, and maps it whole, 512 extents a
 * call. Prints files and extents; exits 1 if anything could not be read. Each directory is one open
 * descriptor while it is walked, and the file type comes with its name: no stat, no path look-up.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { ROWS = 512 };

static struct fiemap *map;
static unsigned long files, extents;

static void fail(const char *name)
{
	perror(name);
	exit(1);
}

static void map_file(int fd, const char *name)
{
	unsigned long long start = 0;
	int last = 0;

	files++;
	while (!last) {
		memset(map, 0, sizeof(*map));
		map->fm_start = start;
		map->fm_length = FIEMAP_MAX_OFFSET - start;
		map->fm_extent_count = ROWS;
		if (ioctl(fd, FS_IOC_FIEMAP, map) < 0)
			fail(name);
		if (map->fm_mapped_extents == 0)
			return;
		extents += map->fm_mapped_extents;

		const struct fiemap_extent *end = &map->fm_extents[map->fm_mapped_extents - 1];
		last = end->fe_flags & FIEMAP_EXTENT_LAST;
		start = end->fe_logical + end->fe_length;
	}
}

static void walk(int fd, const char *name)
{
	DIR *dir = fdopendir(fd);
	struct dirent *entry;

	if (!dir)
		fail(name);
	while ((entry = readdir(dir))) {
		if (entry->d_type != DT_DIR && entry->d_type != DT_REG)
			continue;
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;

		int kind = entry->d_type == DT_DIR ? O_DIRECTORY : 0;
		int child = openat(dirfd(dir), entry->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | kind);

		if (child < 0)
			fail(entry->d_name);
		if (kind) {
			walk(child, entry->d_name);
		} else {
			map_file(child, entry->d_name);
			close(child);
		}
	}
	closedir(dir);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: fiemap_loop MOUNT\n");
		return 2;
	}
	map = malloc(sizeof(*map) + ROWS * sizeof(map->fm_extents[0]));
	if (!map)
		fail("malloc");

	int fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		fail(argv[1]);
	walk(fd, argv[1]);
	printf("%lu files, %lu extents\n", files, extents);
	return 0;
}
