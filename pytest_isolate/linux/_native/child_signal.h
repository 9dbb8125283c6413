/* Keeps the status of this process's children for those who made them. */
#ifndef ISOLATE_CHILD_SIGNAL_H
#define ISOLATE_CHILD_SIGNAL_H

/* Before a child is made; isolate_release_child() when it has been waited for, or was not made. */
void child_signal_hold(void);

/* In the child: SIGCHLD is as it was before. */
void child_signal_forget(void);

#endif
