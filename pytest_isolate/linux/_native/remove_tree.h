#ifndef ISOLATE_REMOVE_TREE_H
#define ISOLATE_REMOVE_TREE_H

/* Removes the file or directory `name` in the directory `at` and all below it, as far as it can be removed. */
void remove_tree(int at, const char *name);

#endif
