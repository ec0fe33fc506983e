/* Kernels: detectors' recursions over series, where each value depends on all before it.
 *
 * Each does what the Python class that calls it does, in the same order of floating-point operations, so that
 * the results are the same to the bit. All state is in the caller's arrays. Values need not be finite for the
 * memory's sake: what is not a number leads to wrong numbers, never to a wrong place.
 */
#include "core.h"

/* As in stats/arrays.py and stats/robust_window.py. */
#define LARGEST 1e150
#define ULPS 1e-14
#define SMALLEST 1e-150
#define IQR 1.349
#define WIDE 1.2
#define FLAT 0.1
#define JUMP 0.5
#define MOST 100.0
/* As in stats/residuals.py and stats/rolling_moments.py. */
#define WIDE_SCALE 0.1
#define RESOLUTION 1e-12

static inline double clipped(double value)
{
    return value > LARGEST ? LARGEST : value < -LARGEST ? -LARGEST : value;
}

/* A window of fewer values than this is kept in order as places of its ring, in bytes: 16 of them move at once. */
#define PLACES 256
/* So many series are worked on at a time, step by step: while one waits for its memory, the others go on. */
#define TOGETHER 4

typedef uint8_t Bytes __attribute__((vector_size(16)));

typedef struct {
    double winsorise, least, wide, entry; /* what of the newest value is to enter */
    double *ring, *values;                /* the latter in order: the ring by its places, else apart from it */
    uint8_t *order;                       /* the places, in one of the tables: what moves is copied to the other; or NULL */
    _Alignas(64) uint8_t tables[2][PLACES + 64];
    Py_ssize_t relative, row, window, size, enough, at, from, to;
} Window;

/* The k-th smallest value. */
#define NTH(w, k) ((w)->values[(w)->order == NULL ? (k) : (w)->order[k]])

/* How many are not above a value; a jump that depends on them would be guessed wrong half the time. */
static inline Py_ssize_t rank(const double *values, const uint8_t *order, Py_ssize_t rest, double value)
{
#define IS_BELOW(k) (values[order == NULL ? (k) : order[k]] <= value)
    Py_ssize_t n = 0;
    for (Py_ssize_t part = rest / 4; part > 0; rest -= 3 * part, part = rest / 4)
        n += part * (IS_BELOW(n + part - 1) + IS_BELOW(n + 2 * part - 1) + IS_BELOW(n + 3 * part - 1));
    for (Py_ssize_t first = n; rest > 0; rest--)
        n += IS_BELOW(first + rest - 1);
    return n;
}

/* Where among the places the oldest is. */
static inline Py_ssize_t oldest(const Window *w)
{
    Bytes index = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, found = index ^ index, wanted, own, next;
    memset(&wanted, (int)w->at, sizeof wanted), memset(&next, 16, sizeof next);
    for (Py_ssize_t i = 0; i < w->window; i += 16, index += next) {
        memcpy(&own, w->order + i, sizeof own);
        found |= (Bytes)(own == wanted) & index;
    }
    uint64_t halves[2];
    memcpy(halves, &found, sizeof halves); /* one byte of them is not 0, and 256 % 255 is 1 */
    const Py_ssize_t n = (Py_ssize_t)((halves[0] | halves[1]) % 255);
    return n < w->window ? n : 0; /* whatever was in the arrays */
}

/* The oldest leaves, the newest enters, and what lies between moves by one: up or down, at the toss of a coin. */
static inline void exchange(Window *w)
{
    static const uint8_t edge[3 * PLACES] = {[PLACES ... 3 * PLACES - 1] = 0xff};
    const Py_ssize_t n = w->window, from = w->from, to = w->to, down = -(Py_ssize_t)(to <= from), by = 1 + 2 * down;
    const Py_ssize_t low = from ^ ((from ^ (to + 1)) & down), high = to ^ ((to ^ (from + 1)) & down);
    w->ring[w->at] = w->entry;
    if (w->order == NULL) {
        memmove(w->values + low, w->values + low + by, (size_t)(high - low) * sizeof(double));
        w->values[to] = w->entry;
    } else {
        const uint8_t *order = w->order, *begin = edge + PLACES - low, *end = edge + PLACES - high;
        uint8_t *next = w->order = w->tables[order == w->tables[0] + 16] + 16;
        for (Py_ssize_t i = 0; i < n; i += 16) {
            Bytes own, other, begun, ended;
            memcpy(&own, order + i, sizeof own), memcpy(&other, order + i + by, sizeof other);
            memcpy(&begun, begin + i, sizeof begun), memcpy(&ended, end + i, sizeof ended);
            own ^= (own ^ other) & begun & ~ended;
            memcpy(next + i, &own, sizeof own);
        }
        next[to] = (uint8_t)w->at;
    }
    w->at = w->at + 1 == n ? 0 : w->at + 1, w->size += w->size < n;
}

/* RobustWindow._judge: z of a value, and what of it enters the window. */
static inline double judge(Window *w, double value, double median)
{
    const double clip = w->winsorise, least = w->least, wide = w->wide, level = fabs(median);
    const double lower = NTH(w, w->size / 4), upper = NTH(w, 3 * w->size / 4);
    const int astride = w->relative && wide < INFINITY && NTH(w, 0) < 0.0 && 0.0 < NTH(w, w->size - 1);
    if (w->relative && !astride && value > 0.0 && 0.0 < WIDE * lower && WIDE * lower < upper) {
        const double own = log(upper / lower) / IQR, scale = least > own ? least : own;
        if (scale > MOST)
            return -INFINITY;
        double z = (log(value) - log(median)) / scale;
        if (!(-clip <= z && z <= clip))
            w->entry = median * exp(copysign(clip, z) * scale);
        return scale > wide ? z * wide / scale : z;
    }
    double scale = (upper - lower) / IQR;
    scale = scale < least * level ? least * level : scale;
    if (lower == upper && w->relative) {
        if (NTH(w, 0) == NTH(w, w->size - 1) && level > 0.0 && value - median > JUMP * level) {
            w->entry = median + clip * FLAT * level;
            return INFINITY;
        }
        scale = (FLAT > least ? FLAT : least) * level;
    }
    if (!(scale > ULPS * level && scale > SMALLEST))
        return -INFINITY;
    const double low = median - clip * scale, high = median + clip * scale;
    if (!(low <= value && value <= high)) { /* else what is to enter need not wait for the division */
        const double bounded = low > value ? low : value;
        w->entry = high < bounded ? high : bounded;
    }
    return astride ? -INFINITY : (value - median) / scale;
}

static PyObject *robust_window(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n_args)
{
    Arrays arrays = {.n = 0};
    Table values, rows, z, median, count, ring, sorted, order, needed, least, wide;
    Window some[TOGETHER], rule;
    if (!take(&arrays, args, n_args, "dNK rK1 DNK DNK QP1 DPW DPW OPS qP1 dP1 dP1 f i", &values, &rows, &z, &median, &count,
              &ring, &sorted, &order, &needed, &least, &wide, &rule.winsorise, &rule.relative))
        return finish(&arrays);
    const Py_ssize_t n = ring.k, is_short = n < PLACES && order.k == n;
    for (Py_ssize_t first = 0, many; first < values.k; first += many) {
        many = values.k - first < TOGETHER ? values.k - first : TOGETHER;
        for (Py_ssize_t j = 0; j < many; j++) {
            Window *w = &some[j];
            const Py_ssize_t row = w->row = AT(int64_t, rows, first + j, 0);
            const int64_t total = AT(int64_t, count, row, 0) < 0 ? 0 : AT(int64_t, count, row, 0);
            memset(w->tables, 0xff, sizeof w->tables); /* beyond the places: none */
            w->winsorise = rule.winsorise, w->relative = rule.relative, w->window = n, w->ring = &AT(double, ring, row, 0);
            w->order = is_short ? w->tables[0] + 16 : NULL, w->values = is_short ? w->ring : &AT(double, sorted, row, 0);
            w->least = AT(double, least, row, 0), w->wide = AT(double, wide, row, 0), w->enough = AT(int64_t, needed, row, 0);
            w->size = total < n ? total : n, w->at = total % n, AT(int64_t, count, row, 0) = total + values.n;
            for (Py_ssize_t i = 0; i < n && is_short; i++)
                w->order[i] = total == 0 ? (uint8_t)i : AT(uint8_t, order, row, i) < n ? AT(uint8_t, order, row, i) : 0;
        }
        for (Py_ssize_t i = 0; i < values.n; i++) {
            for (Py_ssize_t j = 0; j < many; j++) {
                Window *w = &some[j];
                const double value = w->entry = clipped(AT(double, values, i, first + j));
                const Py_ssize_t is_scored = w->size >= w->enough && w->size > 0, below = (w->size - is_scored) / 2;
                const double lower = NTH(w, below), upper = NTH(w, w->size / 2);
                const double middle = is_scored ? (lower + upper) / 2 : value;
                AT(double, z, i, first + j) = is_scored ? judge(w, value, middle) : -INFINITY;
                AT(double, median, i, first + j) = middle;
            }
            for (Window *w = some; w < some + many; w++) {
                if (is_short)
                    w->from = oldest(w), w->to = rank(w->values, w->order, n, w->entry);
                else
                    w->from = rank(w->values, NULL, n, w->ring[w->at]) - 1, w->to = rank(w->values, NULL, n, w->entry);
                w->from += w->from < 0, w->to -= w->to > w->from; /* where it is not a number */
            }
            for (Window *w = some; w < some + many; w++)
                exchange(w);
        }
        for (Window *w = some; w < some + many; w++)
            for (Py_ssize_t i = 0; i < n && is_short; i++)
                AT(uint8_t, order, w->row, i) = w->order[i];
    }
    return finish(&arrays);
}

static PyObject *cusum(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n_args)
{
    Arrays arrays = {.n = 0};
    Table z, rows, fires, sum, fired, threshold, clip;
    double allowance;
    if (!take(&arrays, args, n_args, "dNK rK1 BNK DP1 BP1 dP1 dP1 f", &z, &rows, &fires, &sum, &fired, &threshold, &clip,
              &allowance))
        return finish(&arrays);
    for (Py_ssize_t j = 0; j < z.k; j++) {
        const Py_ssize_t row = AT(int64_t, rows, j, 0);
        const double most = AT(double, clip, row, 0), enough = AT(double, threshold, row, 0);
        double total = AT(double, sum, row, 0);
        int lasts = AT(char, fired, row, 0) != 0;
        for (Py_ssize_t i = 0; i < z.n; i++) {
            const double value = AT(double, z, i, j);
            AT(char, fires, i, j) = 0;
            if (lasts ? value >= allowance : total == 0.0 && !(value >= allowance))
                continue;
            total += (value > most ? most : value < -most ? -most : value) - allowance;
            AT(char, fires, i, j) = lasts = !(total < 0.0) && (total >= enough || value == INFINITY);
            total = lasts || total < 0.0 ? 0.0 : total;
        }
        AT(double, sum, row, 0) = total, AT(char, fired, row, 0) = (char)lasts;
    }
    return finish(&arrays);
}

/* The warm-up is Python's. */
static PyObject *residuals(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n_args)
{
    Arrays arrays = {.n = 0};
    Table values, rows, z, mean, means, variances;
    double decay, clip;
    if (!take(&arrays, args, n_args, "dNK rK1 DNK DNK DP1 DP1 f f", &values, &rows, &z, &mean, &means, &variances, &decay, &clip))
        return finish(&arrays);
    for (Py_ssize_t j = 0; j < values.k; j++) {
        const Py_ssize_t row = AT(int64_t, rows, j, 0);
        double m = AT(double, means, row, 0), v = AT(double, variances, row, 0);
        for (Py_ssize_t i = 0; i < values.n; i++) {
            const double scale = sqrt(v), level = fabs(m);
            double off = clipped(AT(double, values, i, j)) - m, score = NAN;
            AT(double, mean, i, j) = m;
            if (scale > ULPS * level && scale > SMALLEST) {
                score = off / scale;
                score = score > clip ? clip : score < -clip ? -clip : score;
                off = score * scale;
                if (scale > WIDE_SCALE * level)
                    score *= WIDE_SCALE * level / scale;
            }
            AT(double, z, i, j) = score;
            m += decay * off;
            v += decay * (off * off - v);
        }
        AT(double, means, row, 0) = m, AT(double, variances, row, 0) = v;
    }
    return finish(&arrays);
}

/* The median of a column: quickselect between two rooms. Each value is written to both ends of what is left of the
 * other, and one of them is kept: there is no jump that a processor could guess wrong. */
static double median_of(const Table *values, Py_ssize_t column, const Table *rooms)
{
    double *one = &AT(double, *rooms, 0, 0), *other = &AT(double, *rooms, 1, 0), before = -INFINITY;
    Py_ssize_t low = 0, high = values->n, k = high / 2;
    for (Py_ssize_t i = 0; i < high; i++)
        one[i] = AT(double, *values, i, column);
    for (;;) {
        const double pivot = one[k];
        Py_ssize_t less = low, more = high;
        for (Py_ssize_t i = low; i < high; i++) {
            other[less] = other[more - 1] = one[i];
            less += one[i] < pivot, more -= !(one[i] < pivot);
        }
        if (k < less) {
            memcpy(one + low, other + low, (size_t)(less - low) * sizeof(double)), high = less;
            continue;
        }
        more = high;
        for (Py_ssize_t i = less; i < high; i++) {
            one[more - 1] = other[i];
            more -= other[i] > pivot;
        }
        for (Py_ssize_t i = low; i < less && k == less; i++)
            before = other[i] < before ? before : other[i];
        if (k < more)
            return values->n % 2 || k > less ? pivot : (before + pivot) / 2;
        low = more, before = pivot;
    }
}

static PyObject *rolling_moments(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n_args)
{
    Arrays arrays = {.n = 0};
    Table values, rows, mean, std, count, pivots, room, block, suffix1, suffix2, prefix1, prefix2;
    Py_ssize_t min_samples, as_scores;
    if (!take(&arrays, args, n_args, "dNK rK1 DNK DNK QP1 DP1 D2W DWP DWP DWP DP1 DP1 i i", &values, &rows, &mean, &std, &count,
              &pivots, &room, &block, &suffix1, &suffix2, &prefix1, &prefix2, &min_samples, &as_scores))
        return finish(&arrays);
    const Py_ssize_t window = block.n;
    for (Py_ssize_t j = 0; j < values.k; j++) {
        const Py_ssize_t row = AT(int64_t, rows, j, 0);
        int64_t total = AT(int64_t, count, row, 0) < 0 ? 0 : AT(int64_t, count, row, 0);
        double pivot = total == 0 && values.n > 0 ? clipped(AT(double, values, 0, j)) : AT(double, pivots, row, 0);
        double sum1 = AT(double, prefix1, row, 0), sum2 = AT(double, prefix2, row, 0);
        Py_ssize_t at = (Py_ssize_t)(total % window);
        for (Py_ssize_t i = 0; i < values.n; i++) {
            const double value = clipped(AT(double, values, i, j)), s1 = AT(double, suffix1, at, row) + sum1;
            const double s2 = AT(double, suffix2, at, row) + sum2;
            const Py_ssize_t size = total >= window ? window : total < 1 ? 1 : (Py_ssize_t)total;
            const double offset = s1 / (double)size, squares = s2 - s1 * offset, centre = pivot + offset;
            const double least = ULPS * fabs(centre) > SMALLEST ? ULPS * fabs(centre) : SMALLEST;
            double spread = NAN;
            if (total >= min_samples) {
                spread = sqrt((squares > 0.0 ? squares : 0.0) / (double)(size > 1 ? size - 1 : 1));
                if (squares <= RESOLUTION * s2 || spread <= least)
                    spread = 0.0;
            }
            AT(double, mean, i, j) = centre;
            AT(double, std, i, j) = !as_scores ? spread : spread > 0.0 ? (value - centre) / spread : 0.0;
            const double off = value - pivot;
            sum1 += off, sum2 += off * off;
            AT(double, block, at, row) = value;
            total++;
            if (++at < window)
                continue;
            /* The block is full: its suffix sums are about its median, and a new one begins. */
            pivot = median_of(&block, row, &room);
            for (sum1 = sum2 = 0.0; at-- > 0;) {
                const double own = AT(double, block, at, row) - pivot;
                AT(double, suffix1, at, row) = sum1 += own;
                AT(double, suffix2, at, row) = sum2 += own * own;
            }
            at = 0, sum1 = sum2 = 0.0;
        }
        AT(int64_t, count, row, 0) = total, AT(double, pivots, row, 0) = pivot;
        AT(double, prefix1, row, 0) = sum1, AT(double, prefix2, row, 0) = sum2;
    }
    return finish(&arrays);
}

static PyObject *page_hinkley(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n_args)
{
    Arrays arrays = {.n = 0};
    Table values, rows, fires, expected, score, counts, state, weights, inverses;
    Py_ssize_t min_instances, up, down;
    double delta, threshold;
    if (!take(&arrays, args, n_args, "dNK rK1 BNK DNK DNK QP1 D8P dL1 dL1 i f f i i", &values, &rows, &fires, &expected, &score,
              &counts, &state, &weights, &inverses, &min_instances, &delta, &threshold, &up, &down))
        return finish(&arrays);
    const Py_ssize_t length = inverses.n - 1;
    for (Py_ssize_t j = 0; j < values.k && length > 0; j++) {
        const Py_ssize_t row = AT(int64_t, rows, j, 0);
        int64_t n = AT(int64_t, counts, row, 0) < 0 ? 0 : AT(int64_t, counts, row, 0);
        double s[8]; /* pivot, total, inc0, dec0, inc1, dec1, low, high */
        for (int place = 0; place < 8; place++)
            s[place] = AT(double, state, place, row);
        Py_ssize_t at = (Py_ssize_t)(n % length);
        for (Py_ssize_t i = 0; i < values.n; i++) {
            const double value = clipped(AT(double, values, i, j));
            AT(char, fires, i, j) = 0;
            if (isnan(value))
                continue;
            if (++n == 1)
                s[0] = value;
            s[1] += value - s[0];
            const double dev = (value - s[0]) - s[1] / (double)n, inverse = AT(double, inverses, at, 0);
            s[4] += (dev - delta) * inverse, s[5] += (dev + delta) * inverse;
            const double weight = AT(double, weights, at, 0), after = AT(double, weights, at + 1, 0);
            const double inc = after * s[2] + weight * s[4], dec = after * s[3] + weight * s[5];
            s[6] = inc < s[6] ? inc : s[6];
            s[7] = dec > s[7] ? dec : s[7];
            if (++at == length) {
                at = 0;
                s[2] = inc, s[3] = dec, s[4] = s[5] = 0.0;
            }
            const double rise = up ? inc - s[6] : -INFINITY, fall = down ? s[7] - dec : -INFINITY;
            if (n < min_instances || !(rise > threshold || fall > threshold))
                continue;
            AT(char, fires, i, j) = 1;
            AT(double, expected, i, j) = s[0] + s[1] / (double)n;
            AT(double, score, i, j) = rise >= fall ? rise : -fall;
            n = at = 0;
            s[1] = s[2] = s[3] = s[4] = s[5] = 0.0;
            s[6] = INFINITY, s[7] = -1.0;
        }
        AT(int64_t, counts, row, 0) = n;
        for (int place = 0; place < 8; place++)
            AT(double, state, place, row) = s[place];
    }
    return finish(&arrays);
}

#define KERNEL(name, doc) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, doc}

/* Called with the values, the rows of state of their columns, tables for the results, then the state and settings. */
PyMethodDef kernel_methods[] = {
    KERNEL(robust_window, "RobustWindow.update: z and median."),
    KERNEL(cusum, "Cusum.update: where it fires."),
    KERNEL(residuals, "Residuals.update: z and mean."),
    KERNEL(rolling_moments, "RollingMoments.update: mean and std; or .scores: mean and z."),
    KERNEL(page_hinkley, "PageHinkleyCore.update, without NaN: where it fires, and there expected value and score."),
    {NULL, NULL, 0, NULL},
};
