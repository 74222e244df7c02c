// Gopher is a plugin of Sigil on HashiCorp's own go-plugin: nothing in it knows how Sigil's host speaks that protocol.
//
// The messages come from a package that the test generates from proto/, so that no copy of them can fall behind.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	pb "sigil.test/pb"
)

type gopher struct {
	pb.UnimplementedPluginServer
	pb.UnimplementedToolPluginServer
}

func (*gopher) Init(_ context.Context, request *pb.InitRequest) (*pb.InitResponse, error) {
	if request.Protocol != 1 {
		return nil, fmt.Errorf("protocol %d is not spoken here", request.Protocol)
	}
	return &pb.InitResponse{Name: "gopher", Version: "1.2.3"}, nil
}

func (*gopher) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	var tools []*pb.ToolDescription
	for name, description := range map[string]string{
		"echo":   "Says its arguments again, in two pieces.",
		"whoami": "Says who and where this program is, and what it cannot do.",
		"print":  "Prints a line to standard output and one to standard error.",
		"work":   "Uses goroutines, garbage collection and a scratch file.",
		"panic":  "Ends the program.",
	} {
		tools = append(tools, &pb.ToolDescription{
			Name: name, Description: description, ArgumentsSchemaJson: `{"type":"object"}`,
		})
	}
	return &pb.DescribeResponse{Tools: tools}, nil
}

func (*gopher) Call(request *pb.CallRequest, stream pb.ToolPlugin_CallServer) error {
	switch request.Tool {
	case "echo":
		chunk := &pb.CallEvent_Chunk{Chunk: &pb.Chunk{Content: []byte("echo ")}}
		if err := stream.Send(&pb.CallEvent{Event: chunk}); err != nil {
			return err
		}
		return done(stream, request.ArgumentsJson)
	case "whoami":
		text, err := json.Marshal(whoami())
		if err != nil {
			return err
		}
		return done(stream, string(text))
	case "print":
		fmt.Fprintln(os.Stdout, "printed to standard output \x1b[31m")
		fmt.Fprintln(os.Stderr, "printed to standard error")
		return done(stream, "printed")
	case "work":
		text, err := work()
		if err != nil {
			return err
		}
		return done(stream, text)
	case "panic":
		go panic("as I was told")
		select {}
	}
	return errors.New("no such tool")
}

func done(stream pb.ToolPlugin_CallServer, text string) error {
	end := &pb.CallEvent_Done{Done: &pb.Done{Ok: true, Content: []byte(text)}}
	return stream.Send(&pb.CallEvent{Event: end})
}

// What the program finds itself to be, and the outcome of what it must not be able to do.
func whoami() map[string]interface{} {
	outcome := func(err error) string {
		var number syscall.Errno
		switch {
		case err == nil:
			return "done"
		case errors.As(err, &number):
			return number.Error()
		}
		return err.Error()
	}
	cwd, _ := os.Getwd()
	host, _ := os.Hostname()
	_, shadow := os.ReadFile("/etc/shadow")
	_, home := os.ReadDir("/root")
	_, tcp := net.Dial("tcp", "127.0.0.1:22")
	_, listen := net.Listen("tcp", "127.0.0.1:0")
	_, unix := net.Dial("unix", "/tmp/socket")
	_, shell := os.StartProcess("/bin/sh", []string{"sh", "-c", "true"}, &os.ProcAttr{})
	var names []string
	for _, pair := range os.Environ() {
		names = append(names, strings.SplitN(pair, "=", 2)[0])
	}
	return map[string]interface{}{
		"uid": os.Getuid(), "gid": os.Getgid(), "pid": os.Getpid(), "cwd": cwd, "host": host, "env": names,
		"temp": os.TempDir(), "processors": runtime.NumCPU(),
		"shadow": outcome(shadow), "home": outcome(home), "tcp": outcome(tcp), "listen": outcome(listen),
		"unix": outcome(unix), "shell": outcome(shell),
	}
}

// What Go's runtime does with the kernel when a program is busy: threads, memory, preemption, timers, files.
func work() (string, error) {
	var group sync.WaitGroup
	sums := make([]int, 16)
	for number := range sums {
		group.Add(1)
		go func(number int) {
			defer group.Done()
			runtime.LockOSThread()
			for round := 0; round < 200; round++ {
				sums[number] += len(make([]byte, 64<<10))
			}
		}(number)
	}
	group.Wait()
	runtime.GC()
	file, err := os.CreateTemp("", "scratch")
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name())
	if _, err := file.WriteString("scratch"); err != nil {
		return "", err
	}
	whole := 0
	for _, sum := range sums {
		whole += sum
	}
	return fmt.Sprintf("allocated %d MiB", whole>>20), file.Close()
}

// Served is how go-plugin knows the services.
type served struct {
	plugin.NetRPCUnsupportedPlugin
}

func (*served) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	one := &gopher{}
	pb.RegisterPluginServer(server, one)
	pb.RegisterToolPluginServer(server, one)
	return nil
}

func (*served) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (interface{}, error) {
	return nil, errors.New("this program only serves")
}

func main() {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  1,
			MagicCookieKey:   "SIGIL_TEST_PLUGIN",
			MagicCookieValue: "d602bf8f470bc67ca7faa0386276bbdd",
		},
		Plugins:    plugin.PluginSet{"tool": &served{}},
		GRPCServer: plugin.DefaultGRPCServer,
	})
}
