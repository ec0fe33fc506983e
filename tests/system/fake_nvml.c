/* NVML of a machine with two GPUs, for the real bindings (nvidia-ml-py). A file says what is wrong with them:
 * "lost" (GPU 1 has fallen off the bus), "hang" (no answer any more), "mig" (GPU 0 knows no utilisation),
 * "power" (GPU 0's power is not read this time), "none" (no driver).
 * Written from the documented signatures; it takes nothing from NVIDIA's library. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, UNKNOWN = 999 };
typedef struct { int index; } *device;
static struct { int index; } gpus[2] = {{0}, {1}};
static unsigned long long millijoules[2] = {1000, 5000};

static int is(const char *word) {
    char text[32] = "";
    FILE *file = fopen(getenv("FAKE_NVML"), "r");
    if (file) {
        if (!fgets(text, sizeof text, file)) text[0] = 0;
        fclose(file);
    }
    return strncmp(text, word, strlen(word)) == 0;
}

static int state(device gpu) {
    while (is("hang")) usleep(10000);
    return gpu->index == 1 && is("lost") ? GPU_IS_LOST : SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return is("none") ? DRIVER_NOT_LOADED : SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return SUCCESS; }
const char *nvmlErrorString(int code) { return code == GPU_IS_LOST ? "GPU is lost" : "some error"; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu) { *gpu = &gpus[index]; return SUCCESS; }
int nvmlDeviceGetUUID(device gpu, char *text, unsigned size) {
    snprintf(text, size, "GPU-%d%d%d%d", gpu->index, gpu->index, gpu->index, gpu->index);
    return SUCCESS;
}
int nvmlDeviceGetUtilizationRates(device gpu, unsigned *rates) {
    if (gpu->index == 0 && is("mig")) return NOT_SUPPORTED;
    rates[0] = 75 + gpu->index;
    rates[1] = 50;
    return state(gpu);
}
int nvmlDeviceGetMemoryInfo(device gpu, unsigned long long *memory) {
    memory[0] = 80ull << 30;
    memory[1] = 60ull << 30;
    memory[2] = 20ull << 30;
    return state(gpu);
}
int nvmlDeviceGetPowerUsage(device gpu, unsigned *milliwatts) {
    *milliwatts = 350500;
    return gpu->index == 0 && is("power") ? UNKNOWN : state(gpu);
}
int nvmlDeviceGetTotalEnergyConsumption(device gpu, unsigned long long *energy) {
    *energy = millijoules[gpu->index] += 2500;
    return state(gpu);
}
int nvmlDeviceGetTemperature(device gpu, int sensor, unsigned *celsius) {
    *celsius = 61 + sensor;
    return state(gpu);
}
