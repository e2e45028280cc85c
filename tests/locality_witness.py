"""Plain models of what `sqlstable.analysis.locality` works out, to hold it against."""

from collections import Counter, OrderedDict


def lru_misses(pages, size):
    """Return the misses of a cache of the pages touched last, by keeping it."""
    kept, misses = OrderedDict(), 0
    for page in pages:
        if page in kept:
            kept.move_to_end(page)
            continue
        misses += 1
        kept[page] = True
        if len(kept) > size:
            kept.popitem(last=False)
    return misses


def reuse_distances(pages):
    """Return the distance of each touch from a stack of all pages, -1 for the first of a page."""
    stack, found = [], []
    for page in pages:
        found.append(stack.index(page) if page in stack else -1)
        if page in stack:
            stack.remove(page)
        stack.insert(0, page)
    return found


def average_working_set(pages, window):
    """Return the average size of the sets of the last so many pages, at each touch."""
    sizes = [len(set(pages[max(0, end - window) : end])) for end in range(1, len(pages) + 1)]
    return sum(sizes) / max(1, len(sizes))


def hot_pages(pages, percent):
    """Return how many pages have this share of the touches, taken one by one."""
    taken, count = 0, 0
    for _, touches in Counter(pages).most_common():
        if taken * 100 >= percent * len(pages):
            break
        taken, count = taken + touches, count + 1
    return count
